"""Learning: from ECGs and labels to model packages; the outermost layer."""
