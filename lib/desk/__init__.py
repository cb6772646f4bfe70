"""The desk-scale models: small models of the real architectures, trained here and shipped."""
