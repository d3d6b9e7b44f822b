"""Methods, one file each; installed as `specbench.plugins`."""
