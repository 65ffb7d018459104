"""What can be asked of the cloud: one module a resource."""
