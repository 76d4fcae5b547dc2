//! Describes the paths of the admin port, for the reference.

/// One path of the admin port.
#[derive(Debug)]
pub struct AdminPath {
    /// `GET, HEAD` or `POST`.
    pub methods: &'static str,
    /// The path and its query, with the variable part in capitals.
    pub path: &'static str,
    /// Whether only clients on the same machine, or in the same pod, are answered.
    pub is_local: bool,
    /// What it does.
    pub summary: &'static str,
    /// The possible statuses and their meaning.
    pub statuses: &'static [(u16, &'static str)],
}

const NO_CATALOG: (u16, &str) = (404, "This role answers no machines.");
const BAD_QUERY: (u16, &str) = (400, "The query is invalid.");
const NOT_LOCAL: (u16, &str) = (
    403,
    "The client is on another machine, or the request is for another host, from a web page or through a proxy.",
);
const NOT_DIRECT: (u16, &str) = (
    403,
    "The request is for another host, from a web page or through a proxy.",
);
const BUSY: (u16, &str) = (
    503,
    "Too many answers are still being sent. `Retry-After` says when to ask again.",
);

/// Every path of the admin port.
pub static PATHS: &[AdminPath] = &[
    AdminPath {
        methods: "GET, HEAD",
        path: "/healthz",
        is_local: false,
        summary: "Reports that the process runs.",
        statuses: &[(200, "It runs.")],
    },
    AdminPath {
        methods: "GET, HEAD",
        path: "/readyz",
        is_local: false,
        summary: "Reports whether the process is ready to serve. With `?verbose`, also the number of objects and one line for \
                  each problem.",
        statuses: &[
            (200, "It is ready."),
            (503, "It has not loaded its objects yet, or is stopping."),
        ],
    },
    AdminPath {
        methods: "GET, HEAD",
        path: "/metrics",
        is_local: false,
        summary: "Returns all metrics in the OpenMetrics text format.",
        statuses: &[(200, "The metrics."), (500, "They can't be encoded.")],
    },
    AdminPath {
        methods: "GET, HEAD",
        path: "/explain?uuid=...&mac=...",
        is_local: false,
        summary: "Explains which Profile a machine with these labels gets, as JSON, like `shaper explain`. Only api and \
                  standalone.",
        statuses: &[
            (200, "The explanation."),
            BAD_QUERY,
            NOT_DIRECT,
            NO_CATALOG,
            BUSY,
        ],
    },
    AdminPath {
        methods: "GET, HEAD",
        path: "/explain/script?uuid=...",
        is_local: true,
        summary: "Renders the script for a machine with these labels. Only api and standalone.",
        statuses: &[
            (200, "The script."),
            BAD_QUERY,
            NOT_LOCAL,
            (
                404,
                "The machine gets no Profile, or this role answers no machines.",
            ),
            (422, "The template fails for this machine."),
            BUSY,
        ],
    },
    AdminPath {
        methods: "GET, HEAD",
        path: "/explain/config/NAME?uuid=...",
        is_local: true,
        summary: "Renders the config `NAME` for a machine with these labels. Only api and standalone.",
        statuses: &[
            (200, "The config."),
            BAD_QUERY,
            NOT_LOCAL,
            (
                404,
                "The machine gets no Profile, its Profile has no such config, or this role answers no machines.",
            ),
            (422, "The template fails for this machine."),
            BUSY,
        ],
    },
    AdminPath {
        methods: "GET, HEAD",
        path: "/catalog?partition=...",
        is_local: true,
        summary: "Lists all Profiles and Assignments in the catalog, or those of one partition, as a Kubernetes List in JSON, \
                  without config ids. Only api and standalone.",
        statuses: &[
            (200, "The list."),
            NOT_LOCAL,
            NO_CATALOG,
            (500, "The list can't be written."),
            (
                503,
                "The objects are not loaded yet, or too many clients read the list. In the second case, `Retry-After` says when to ask again.",
            ),
        ],
    },
    AdminPath {
        methods: "POST",
        path: "/guard/confirm?partition=...",
        is_local: true,
        summary: "Removes the objects that the mass-deletion guard keeps, of one partition or of all. Needs the header \
                  `X-Shaper-Request: 1`, which a form of a web page can't send.",
        statuses: &[
            (200, "The objects are removed; the response says how many."),
            (
                403,
                "The header `X-Shaper-Request: 1` is missing, the client is on another machine, or the request is for another host, from \
                 a web page or through a proxy.",
            ),
            (404, "This role has no mass-deletion guard."),
        ],
    },
];
