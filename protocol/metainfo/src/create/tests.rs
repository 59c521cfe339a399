//! What libtorrent 2.1.1 makes of the same input, and what no torrent can be made of.
