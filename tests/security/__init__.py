"""What somebody tries who means harm, against the real web process and the real processing."""
