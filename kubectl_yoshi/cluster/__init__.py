"""The only room that does I/O: the API client, reading, and carrying plans out."""
