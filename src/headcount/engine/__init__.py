"""The threads. The core decides, a store translates; here is who does it, and when.

hub        one process on one store: a heart and a watcher, each a native thread
notifier   a third thread, which runs the application's callbacks
identity   what a process is called: host, instance, pid
settings   where each setting comes from
"""
