"""Networks made by other programs, applied as they are: TorchScript, torch.export, ONNX and Keras."""
