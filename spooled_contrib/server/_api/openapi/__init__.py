"""The description of the interface that machines read: `GET /openapi.json`."""
