//! A templar home on disk: keys, journal, replica, inventory, retention and the local socket's protocol.
