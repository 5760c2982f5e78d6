defmodule Koma.Access.Key do
  @moduledoc """
  An API key as the server knows it: its id, the SHA-256 of its secrets, and what it may do. The
  id is public: it owns jobs and stands in logs. The secrets are never stored.

  A key has several secrets while one is being replaced.
  """

  alias Koma.Access.Limits

  @enforce_keys [:id, :digests]
  defstruct [:id, :digests, weight: 1, roles: [], limits: %Limits{}]

  @type t :: %__MODULE__{
          id: String.t(),
          digests: [<<_::256>>],
          weight: pos_integer,
          roles: [Koma.Caller.role()],
          limits: Limits.t()
        }
end
