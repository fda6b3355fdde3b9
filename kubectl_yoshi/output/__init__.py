"""Tables, JSON, YAML, JSONPath: how results are shown."""
