"""The store in ZooKeeper. `names` says where everything is, `hearts` whose sessions live, `commit` and
`reading` how the register is written and read; `store` puts them together."""
