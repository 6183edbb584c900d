"""The making of the shipped models: from open records to ONNX packages, by one command.

``python -m training.shipped --data ../shared/data --out analysis/models``
"""
