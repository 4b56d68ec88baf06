"""What every stage needs and no model knows: outputs, locks, devices, randomness."""
