"""What labels buy: probes on frozen maps, fine-tuning on few labelled images, and names for clusters."""
