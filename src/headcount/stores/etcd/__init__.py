"""The etcd store. What it keeps there, and why a beat is trusted, is told in `store`."""
