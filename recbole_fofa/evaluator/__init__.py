"""What a trained model does on the devices of the evaluated users."""
