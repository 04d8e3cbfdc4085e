"""Training of the class-agnostic localizers: box sources, augmentation, losses, loop."""
