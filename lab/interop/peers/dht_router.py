"""A DHT contact without torrents, on libtorrent. The one argument is the address and port to listen on. Prints "ready", and
"announced" when it has been told of a peer."""

import sys
import time

import libtorrent as lt

session = lt.session({
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
    "alert_mask": lt.alert.category_t.stats_notification,
})
print("ready", flush=True)
announced = False
while True:
    session.post_session_stats()
    session.wait_for_alert(200)
    for alert in session.pop_alerts():
        if isinstance(alert, lt.session_stats_alert) and alert.values["dht.dht_peers"] > 0 and not announced:
            announced = True
            print("announced", flush=True)
    time.sleep(0.2)
