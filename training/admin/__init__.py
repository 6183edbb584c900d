"""The admin service: an API and pages beside the node, in a process of its own."""
