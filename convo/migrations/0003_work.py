import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('convo', '0002_idempotency'),
    ]

    operations = [
        migrations.CreateModel(
            name='Work',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(max_length=40)),
                ('target', models.CharField(help_text='The primary key of the row that it is about.', max_length=40)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('next_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('holder', models.CharField(blank=True, help_text='Names the attempt that has the lease.', max_length=32)),
                ('lease_until', models.DateTimeField(blank=True, null=True)),
                ('error', models.TextField(blank=True)),
                ('state', models.CharField(choices=[('todo', 'Todo'), ('dead', 'Dead')], default='todo', max_length=4)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'verbose_name_plural': 'work',
                'indexes': [models.Index(condition=models.Q(('state', 'todo')), fields=['next_at'], name='work_due')],
                'constraints': [models.UniqueConstraint(fields=('kind', 'target'), name='one_work_per_target')],
            },
        ),
    ]
