"""Rules about public addresses: from the Service to the router: 2xxx."""
