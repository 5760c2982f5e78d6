defmodule Koma.Caller do
  @moduledoc """
  Who asks: the id of an API key, or `nil` where keys are not configured; what its roles allow;
  and the process that wants what is asked for: a socket for its topics, `nil` for the process
  that asks.

  `credential` names the one secret of the key that was shown, without telling it: see
  `Koma.Access.valid?/1`. `session` names that of a browser which
  logged in. Callers are made by `Koma.Access.authenticate/1`.
  """

  defstruct [:key, :process, :credential, :session, roles: []]

  @typedoc "`:operator` may act on the server; `:metrics` may read its metrics."
  @type role :: :operator | :metrics
  @type t :: %__MODULE__{
          key: String.t() | nil,
          process: pid | nil,
          credential: binary | nil,
          session: String.t() | nil,
          roles: [role]
        }
end
