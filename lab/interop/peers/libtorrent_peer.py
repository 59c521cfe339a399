"""A libtorrent client. The one argument is a JSON object: torrent, magnet (instead of the torrent, or null), folder, listen
(address:port), seed, connect (addresses), local (look for peers on the local network), upload_limit (bytes a second, 0: none),
speech (usual, clear or encrypted), utp (speak it, and no TCP), router (a DHT contact, or null), download_limit (as upload_limit), exchange (PEX), measured (take what is to be seeded for right, hear of no peers but these, end when complete).
Prints one JSON object a line: {"event": "ready"}, {"event": "complete"},
{"event": "progress", ...} every second, and alerts."""

import json
import os
import sys
import time

import libtorrent as lt

# The session's own defaults, but for what would look for peers outside, or refuse peers on one machine.
SETTINGS = {
    "user_agent": "libtorrent/" + lt.__version__,
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "allow_multiple_connections_per_ip": True,
    "ssrf_mitigation": False,
    "min_reconnect_time": 1,
    "alert_mask": lt.alert.category_t.error_notification
    | lt.alert.category_t.status_notification
    | lt.alert.category_t.tracker_notification
    | lt.alert.category_t.connect_notification
    | lt.alert.category_t.storage_notification,
}

# The DHT, where all contacts are on one machine.
DHT = {
    "enable_dht": True,
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False,
    "dht_prefer_verified_node_ids": False,
    "dht_max_peers_reply": 100,
}

# Both directions of connections. What is forced without more is the handshake; the level makes it the payload too.
SPEECH = {
    "usual": {},
    "clear": {"in_enc_policy": lt.enc_policy.pe_disabled, "out_enc_policy": lt.enc_policy.pe_disabled},
    "encrypted": {
        "in_enc_policy": lt.enc_policy.pe_forced,
        "out_enc_policy": lt.enc_policy.pe_forced,
        "allowed_enc_level": lt.enc_level.pe_rc4,
        "prefer_rc4": True,
    },
}


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def add(session, order):
    if order.get("magnet"):
        parameters = lt.parse_magnet_uri(order["magnet"])
    else:
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(order["torrent"])
    parameters.save_path = order["folder"]
    parameters.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if not order["exchange"]:
        parameters.flags |= lt.torrent_flags.disable_pex
    if order["measured"]:
        parameters.flags |= lt.torrent_flags.disable_pex
        if order["seed"]:
            parameters.flags |= lt.torrent_flags.seed_mode
    torrent = session.add_torrent(parameters)
    if order["upload_limit"]:
        torrent.set_upload_limit(order["upload_limit"])
    if order["download_limit"]:
        torrent.set_download_limit(order["download_limit"])
    return torrent


def main():
    order = json.loads(sys.argv[1])
    settings = {**SETTINGS, "listen_interfaces": order["listen"], "enable_lsd": order["local"]}
    settings.update(SPEECH[order["speech"]])
    for direction in ("incoming", "outgoing"):
        settings[f"enable_{direction}_utp"] = order["utp"]
        settings[f"enable_{direction}_tcp"] = not order["utp"]
    if order["router"]:
        settings.update(DHT, dht_bootstrap_nodes=order["router"])
    session = lt.session(settings)
    while order["router"] and not session.is_dht_running():
        # A torrent that is there before the DHT is announced a quarter of an hour later.
        session.wait_for_alert(50)
        session.pop_alerts()
    torrent = add(session, order)
    for peer in order["connect"]:
        address, port = peer.rsplit(":", 1)
        torrent.connect_peer((address, int(port)))
    complete, spoken = False, time.monotonic()
    while True:
        status = torrent.status()
        for alert in session.pop_alerts():
            say("alert", kind=type(alert).__name__, message=alert.message())
            if isinstance(alert, lt.cache_flushed_alert) and complete:
                say("ready" if order["seed"] else "complete")
                if order["measured"] and not order["seed"]:
                    # All is on the disk, and taking leave is not measured.
                    os._exit(0)
        if status.is_seeding and not complete:
            # What is verified may still be on its way to the disk.
            complete = True
            torrent.flush_cache()
        if time.monotonic() - spoken > 1:
            spoken = time.monotonic()
            say("progress", done=status.total_done, sent=status.total_payload_upload, peers=status.num_peers)
        session.wait_for_alert(50)


main()
