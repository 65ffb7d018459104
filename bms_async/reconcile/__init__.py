"""Power for those who hold one server, or a desired state: wishes that batch themselves, and the reconciler."""
