"""Releases: archives that need no Python, krew's manifests, checksums and SBOMs.

python -m release archive      dist/kubectl-yoshi_v0.1.0_linux_amd64.tar.gz, for the machine it runs on
python -m release krew         dist/yoshi.yaml, krew's manifest with the checksums of the archives in dist
python -m release checksums    dist/SHA256SUMS
"""
