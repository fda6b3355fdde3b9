"""Moving a public address from one VM to another: `planner`, and undoing a move that failed (`rollback`)."""
