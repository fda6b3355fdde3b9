"""Rules about capacity and overlaps: 3xxx."""
