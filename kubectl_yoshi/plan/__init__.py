"""From (wanted, observed) to a list of changes. Pure; one module per verb."""
