"""From OpenPAI's and kubespray's own files to the values of a stack. Pure: files go in, a frozen result comes out."""
