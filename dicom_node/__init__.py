"""The live service: DICOM in, DICOM out, nothing lost."""
