"""The target `ssh://HOST`: a board that is reached by OpenSSH."""
