"""What a network, an address set, a ledger and a record are. Pure: no I/O, no click, no kubernetes."""
