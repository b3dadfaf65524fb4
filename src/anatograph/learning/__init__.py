"""Networks, contrast, augmentation, batches, pretraining, and the published checkpoints."""
