"""What a representation is worth: frozen features, probes on them, and the accuracy matrix over the tasks."""
