defmodule Koma.Cluster.Owner do
  @moduledoc """
  Which gateway a job or pipeline belongs to, read from its id: in a cluster an id begins with a tag
  of the name of the peer that accepted it (`job_<tag><128 random bits>`), so the owner is found
  without asking anybody. Pure.
  """

  @tag_bits 30
  @tag_length div(@tag_bits, 5)

  @doc """
  The tag of a peer: six characters, of the SHA-256 of its name.

      iex> Koma.Cluster.Owner.tag(:"koma@10.0.0.1")
      "vr2bna"
  """
  @spec tag(node) :: String.t()
  def tag(peer) do
    <<bits::bitstring-size(@tag_bits), _rest::bitstring>> =
      :crypto.hash(:sha256, Atom.to_string(peer))

    Base.encode32(<<bits::bitstring, 0::10>>, case: :lower, padding: false)
    |> binary_part(0, @tag_length)
  end

  @doc "The peer among `peers` whose tag an id has; nil when it has none of theirs."
  @spec of(id :: String.t(), [node]) :: node | nil
  def of(id, peers) do
    with [_kind, <<tag::binary-size(@tag_length), _random, _::binary>>] <-
           String.split(id, "_", parts: 2) do
      Enum.find(peers, &(tag(&1) == tag))
    else
      _another_shape -> nil
    end
  end
end
