"""The API server: requests, retries, discovery and errors. Knows Kubernetes, and no product that runs on it.

`Api` (client) reads and writes objects; `Connection` (connection) holds its HTTP connections and credentials. Every
request goes through `retry`, which repeats what is safe to repeat and limits the number of requests in flight. Error
responses become the exceptions of `errors`, each with a hint. `discovery` determines which resources are served,
`list_stream` parses long lists item by item. Only this package imports the Kubernetes client and urllib3.
"""
