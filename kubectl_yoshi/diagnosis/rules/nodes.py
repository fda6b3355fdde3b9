"""Rules about nodes and Layer 2 networks: 4xxx."""
