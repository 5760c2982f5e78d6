// A server that asks for keys, and the keys that it knows.
import { createHash } from "node:crypto"
import { server } from "./suite.mjs"

export const SECRETS = { boss: "koma_secret_of_the_operator", ann: "koma_secret_of_ann", ben: "koma_secret_of_ben" }
const digest = (secret) => createHash("sha256").update(secret).digest("hex")
const KEYS = Object.entries(SECRETS).map(([id, secret]) => `${id} sha256:${digest(secret)}${id === "boss" ? " roles=operator" : ""}`)

export const withKeys = () => server("keys", { KOMA_MODELS: "toy", KOMA_KEYS: KEYS.join(";") })
export const as = (id) => ({ authorization: `Bearer ${SECRETS[id]}` })
