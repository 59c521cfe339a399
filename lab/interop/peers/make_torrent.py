"""Makes a torrent with libtorrent. The one argument is a JSON object: path, out, kind, piece_length (0: automatic), trackers,
web_seeds, private."""

import json
import os
import sys

import libtorrent as lt

order = json.loads(sys.argv[1])
path = os.path.abspath(order["path"])
kind = {"v1": lt.create_torrent.v1_only, "v2": lt.create_torrent.v2_only, "hybrid": 0}[order["kind"]]

# The file system lists names in any order, and v1 torrents keep the one that they are given: here that of a v2 file tree.
files = sorted(lt.list_files(path), key=lambda file: [os.fsencode(name) for name in file.filename.split("/")])
torrent = lt.create_torrent(files, order["piece_length"], kind)
torrent.set_priv(order["private"])
for tier, tracker in enumerate(order["trackers"]):
    torrent.add_tracker(tracker, tier)
for url in order["web_seeds"]:
    torrent.add_url_seed(url)
lt.set_piece_hashes(torrent, os.path.dirname(path))
with open(order["out"], "wb") as out:
    out.write(lt.bencode(torrent.generate()))
