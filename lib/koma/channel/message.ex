defmodule Koma.Channel.Message do
  @moduledoc """
  One message that a client sent: the five parts of Phoenix Channels protocol 2.

  `ref` numbers the message and comes back in its reply; `join_ref` is the `ref` of the join that
  the topic was entered with. Both are strings in the official clients; numbers are taken too and
  come back as they were sent.
  """

  @enforce_keys [:join_ref, :ref, :topic, :event, :payload]
  defstruct [:join_ref, :ref, :topic, :event, :payload]

  @type ref :: String.t() | integer | nil
  @type t :: %__MODULE__{
          join_ref: ref,
          ref: ref,
          topic: String.t(),
          event: String.t(),
          payload: Koma.JSON.value() | {:binary, binary}
        }
end
