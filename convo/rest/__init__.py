"""The REST API under /api/v1/, its OpenAPI document and its browsable forms."""
