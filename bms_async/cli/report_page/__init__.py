"""What `bms --report` writes and `bms --serve` shows: files that need no network, to be kept, sent and printed."""
