"""Rules about security: 5xxx."""
