"""One set of limits for many processes and machines.

`ledger` is the rule book, a pure function; a store runs it atomically. `holder` is one process's side of one limit,
`exchange` the one task that speaks to the store.
"""
