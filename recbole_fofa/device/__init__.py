"""What runs on the device: numpy and safetensors, neither torch nor RecBole."""
