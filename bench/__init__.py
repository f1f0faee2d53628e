"""How fast it is, and how far from what the store alone could do. `make bench` prints a table.

One file a question. Each has `measure(run)`, which yields the lines of the table. A number is never a
failure: the table says whether a goal is met, and people decide what that means on their machine.
"""
