"""What puts the engine on machines: the image's parts, units, and the checks of these files. Not in the package."""
