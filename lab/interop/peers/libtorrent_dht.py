"""A contact of the DHT, by libtorrent, that has no torrents. The one argument is where it listens (address:port). Prints one JSON
object a line: {"event": "ready"}, and {"event": "announced", "info_hash": ..., "port": ...} for each announce that it stores."""

import json
import sys

import libtorrent as lt


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def main():
    session = lt.session(
        {
            "listen_interfaces": sys.argv[1],
            "enable_dht": True,
            "dht_bootstrap_nodes": "",
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_ignore_dark_internet": False,
            "dht_enforce_node_id": False,
            "dht_prefer_verified_node_ids": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "alert_mask": lt.alert.category_t.dht_notification | lt.alert.category_t.status_notification,
        }
    )
    ready = False
    while True:
        for alert in session.pop_alerts():
            if isinstance(alert, lt.dht_announce_alert):
                say("announced", info_hash=str(alert.info_hash), port=alert.port)
            if isinstance(alert, lt.listen_succeeded_alert) and not ready:
                ready = True
                say("ready")
        session.wait_for_alert(50)


main()
