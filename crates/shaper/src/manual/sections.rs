//! The sections of man pages that are not in `--help`. The empty name stands for `shaper` itself.

const MANIFESTS: (&str, &str) = (
    "*.yaml, *.yml, *.json",
    "Manifests of Profiles and Assignments, at any depth below the directory.",
);

const FEED_TLS: (&str, &str) = (
    "tls.crt, tls.key, ca.crt",
    "In --feed-tls-dir: certificate, key and CA of the feed.",
);

/// Files with their meaning, by command.
pub(super) static FILES: &[(&str, &[(&str, &str)])] = &[
    (
        "",
        &[(
            "/var/lib/shaper, $XDG_STATE_HOME/shaper, ~/.local/state/shaper",
            "Default state directory of `shaper standalone`; see shaper-standalone(1).",
        )],
    ),
    (
        "standalone",
        &[
            MANIFESTS,
            (
                "/var/lib/shaper, $XDG_STATE_HOME/shaper, ~/.local/state/shaper",
                "Default state directory; the first one is for root. systemd's StateDirectory overrides it, and \
                 --state-dir overrides both.",
            ),
            (
                "config-ids.json",
                "In the state directory: the ids in the URLs of configs. Back it up.",
            ),
            (
                "folder.copy",
                "In the state directory: the last good objects of each file.",
            ),
        ],
    ),
    (
        "api",
        &[
            FEED_TLS,
            (
                "feed.copy, feed-PARTITION.copy",
                "In --state-dir: the last complete catalog, to start from while no controller is reachable.",
            ),
            (
                "tls.crt, tls.key, ca.crt",
                "In --https-tls-dir: certificate, key and optional CA for HTTPS.",
            ),
        ],
    ),
    (
        "controller",
        &[
            ("~/.kube/config", "Default kubeconfig outside of a pod."),
            FEED_TLS,
        ],
    ),
    (
        "webhook",
        &[
            (
                "tls.crt, tls.key",
                "In --webhook-tls-dir: certificate and key for the API server's requests.",
            ),
            FEED_TLS,
        ],
    ),
    (
        "tftp",
        &[(
            "autoexec.ipxe, boot.ipxe",
            "Below --tftp-root: replace the generated bootstrap scripts.",
        )],
    ),
    ("validate", &[MANIFESTS]),
    ("explain", &[MANIFESTS]),
    ("diff", &[MANIFESTS]),
    (
        "completions",
        &[(
            "/etc/bash_completion.d/shaper",
            "Completions for bash, for all users.",
        )],
    ),
    (
        "man",
        &[(
            "/usr/local/share/man/man1",
            "Man pages of locally installed programs.",
        )],
    ),
];

/// Examples with what they do, by command, for commands whose help has none.
pub(super) static EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "standalone",
        &[
            (
                "Serve machines from a folder, with labels for templates",
                "shaper standalone manifests/ --label assets=http://192.0.2.1/images",
            ),
            (
                "Serve the first iPXE over TFTP too",
                "shaper standalone manifests/ --tftp-root /srv/tftp",
            ),
        ],
    ),
    (
        "api",
        &[
            (
                "Follow the controllers of one cluster",
                "shaper api --feed https://shaper-controller:9443 --feed-tls-dir /tls --state-dir /var/lib/shaper",
            ),
            (
                "Follow two clusters that share the catalog",
                "shaper api --feed east=https://east:9443 --feed west=https://west:9443 --feed-tls-dir /tls",
            ),
        ],
    ),
    (
        "controller",
        &[(
            "Follow two namespaces of a cluster",
            "shaper controller --namespace boot --namespace lab --feed-tls-dir /tls",
        )],
    ),
    (
        "webhook",
        &[(
            "Review objects with the catalog of a controller",
            "shaper webhook --webhook-tls-dir /webhook-tls --feed https://shaper-controller:9443 --feed-tls-dir /tls",
        )],
    ),
    (
        "tftp",
        &[(
            "Lead machines to an HTTP server at another address",
            "shaper tftp --tftp-root /srv/tftp --public-url http://boot.example.com:8080",
        )],
    ),
    (
        "partition",
        &[(
            "Print the cluster of a namespace",
            "shaper partition --partitions east,west default",
        )],
    ),
    (
        "completions",
        &[(
            "Install completions for bash",
            "shaper completions bash > /etc/bash_completion.d/shaper",
        )],
    ),
    (
        "man",
        &[
            ("Read a page", "shaper man validate | man -l -"),
            (
                "Install a page",
                "shaper man standalone > /usr/local/share/man/man1/shaper-standalone.1",
            ),
        ],
    ),
];

/// Related pages, by command.
pub(super) static SEE_ALSO: &[(&str, &[&str])] = &[
    ("", &["dnsmasq(8)", "kubectl(1)"]),
    (
        "standalone",
        &[
            "shaper-validate(1)",
            "shaper-explain(1)",
            "shaper-tftp(1)",
            "dnsmasq(8)",
        ],
    ),
    ("api", &["shaper-controller(1)", "shaper-tftp(1)"]),
    ("controller", &["shaper-api(1)", "shaper-webhook(1)"]),
    (
        "webhook",
        &["shaper-webhook-configuration(1)", "shaper-controller(1)"],
    ),
    (
        "webhook-configuration",
        &["shaper-webhook(1)", "kubectl(1)"],
    ),
    (
        "tftp",
        &["shaper-standalone(1)", "shaper-api(1)", "dnsmasq(8)"],
    ),
    ("partition", &["shaper-api(1)"]),
    ("validate", &["shaper-explain(1)", "shaper-diff(1)"]),
    ("explain", &["shaper-validate(1)", "shaper-diff(1)"]),
    ("diff", &["shaper-explain(1)", "shaper-validate(1)"]),
    ("completions", &["bash(1)"]),
    ("man", &["man(1)"]),
];
