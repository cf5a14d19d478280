"""One request, one response: messages, transports, the retry policy, and the wire's JSON. Private."""
