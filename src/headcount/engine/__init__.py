"""The threads. The core decides, a store translates; here is who does it, and when.

hub        one process on one store: a heart and a watcher, each a native thread
callers    the application's threads: calls that the watcher carries out, and waiting until something is so
notifier   a thread that runs the application's callbacks
herald     a thread that writes the log, so that nobody else waits for one of its handlers
identity   what a process is called: host, instance, pid
settings   where each setting comes from
"""
