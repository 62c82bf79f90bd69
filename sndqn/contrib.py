"""The policies for sb3-contrib's QRDQN; needs `pip install "sndqn[contrib]"`.

Zips that QRDQN saves name its policy by this module.
"""

from sndqn.policies.qr_dqn import POLICIES, SNCnnPolicy, SNMlpPolicy, SNMultiInputPolicy

__all__ = ["POLICIES", "SNCnnPolicy", "SNMlpPolicy", "SNMultiInputPolicy"]
