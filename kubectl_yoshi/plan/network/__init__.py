"""Creating and deleting networks: `planner`, the `status` that is written to them, and `init_allocations`, which
records the addresses that are in use before a network assigns any.
"""
